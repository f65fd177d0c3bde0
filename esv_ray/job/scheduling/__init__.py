"""Which unit runs where: pure state machines, without Ray and without a clock."""
