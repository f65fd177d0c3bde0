"""Every read and write of the project, over fsspec.

A location is an fsspec URL: a plain path, ``s3://bucket/prefix``, ``gs://``, ``memory://``, ... Credentials come from
the environment of the store's client and are never part of a URL. Transient faults are retried by one policy
(`transport.faults`); every other fault becomes a `DataError` that says what was being done and where.
"""

from esv_ray.storage.commit import commit_from, commit_new, move, remove, replace, replace_from
from esv_ray.storage.escaped_files import EscapedFiles, fault_in, file_path, plain_path, unescaped
from esv_ray.storage.inside import check_outside
from esv_ray.storage.kinds import kind_of
from esv_ray.storage.links import check_no_broken_link, is_hidden
from esv_ray.storage.listing import find, is_of, list_folder, list_names, path_below, root_of
from esv_ray.storage.location import (
    absolute,
    identity,
    in_this_process,
    is_local,
    join,
    open_location,
    protocol_of,
    split_archive,
    without_links,
)
from esv_ray.storage.objects import exists, is_taken, read_bytes, read_ends, read_ranges, reader
from esv_ray.storage.patterns import is_pattern
from esv_ray.storage.range_file import RangeFile
from esv_ray.storage.spelling import given, local_path, spelled, without_credentials
from esv_ray.storage.states import State, state, states_of
from esv_ray.storage.transport.faults import RetryPolicy, attempt, locating, retry_policy
from esv_ray.storage.trials import check_writable, creates_only
from esv_ray.storage.vacancy import check_vacant

__all__ = [
    "EscapedFiles",
    "RangeFile",
    "RetryPolicy",
    "State",
    "absolute",
    "attempt",
    "check_no_broken_link",
    "check_outside",
    "check_vacant",
    "check_writable",
    "commit_from",
    "commit_new",
    "creates_only",
    "exists",
    "fault_in",
    "file_path",
    "find",
    "given",
    "identity",
    "in_this_process",
    "is_hidden",
    "is_local",
    "is_of",
    "is_pattern",
    "is_taken",
    "join",
    "kind_of",
    "list_folder",
    "list_names",
    "local_path",
    "locating",
    "move",
    "open_location",
    "path_below",
    "plain_path",
    "protocol_of",
    "read_bytes",
    "read_ends",
    "read_ranges",
    "reader",
    "remove",
    "replace",
    "replace_from",
    "retry_policy",
    "root_of",
    "spelled",
    "split_archive",
    "state",
    "states_of",
    "unescaped",
    "without_credentials",
    "without_links",
]
