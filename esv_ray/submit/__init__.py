"""Jobs submitted to a remote cluster: to Ray's job server or to Kubernetes."""
