"""What FiftyOne 1.22.1 reads from a folder of the format `FiftyOneDataset`, as JSON schemas.

Written down from its source: `FiftyOneDatasetImporter` (`fiftyone/utils/data/importers.py`), `import_collection`
(`core/odm/database.py`: one object with one key), `DatasetDocument` and `SampleFieldDocument` (`core/odm/dataset.py`),
`DatasetSampleDocument` (`core/odm/sample.py`), `DatasetFrameDocument` (`core/odm/frame.py`), `Classification`,
`TemporalDetection`, `TemporalDetections` (`core/labels.py`), `validate_field_name` (`core/odm/utils.py`). In the
repository voxel51/fiftyone: importers.py at commit e9cec2085954eaf0e1310933ed5c4ffe9af923b3, frame.py at commit
ff758118dc4492fd8a3ed3bd8557e415cd5158e7.
"""

from __future__ import annotations

from typing import Any

FIELD_NAME = "^[^_.$][^.$]*$"
OID = {
    "type": "object",
    "properties": {"$oid": {"type": "string", "pattern": "^[0-9a-f]{24}$"}},
    "required": ["$oid"],
    "additionalProperties": False,
}
TAGS = {"type": "array", "items": {"type": "string"}}
NUMBER_OR_NULL = {"type": ["number", "null"]}
CLASSIFICATION = {
    "type": "object",
    "properties": {
        "_id": OID,
        "_cls": {"const": "Classification"},
        "tags": TAGS,
        "label": {"type": "string"},
        "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "logits": {"type": "null"},
    },
    "required": ["_id", "_cls", "tags", "label"],
    "additionalProperties": False,
}
DETECTION = {
    "type": "object",
    "properties": {
        "_id": OID,
        "_cls": {"const": "TemporalDetection"},
        "tags": TAGS,
        "label": {"type": "string"},
        "support": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
        "confidence": NUMBER_OR_NULL,
    },
    "required": ["_id", "_cls", "tags", "label", "support"],
}
SAMPLE = {
    "type": "object",
    "properties": {
        "_id": OID,
        "filepath": {"type": "string", "minLength": 1},
        "tags": TAGS,
        "metadata": {"type": "null"},
        "_media_type": {"const": "video"},
        "_rand": {"type": "number", "minimum": 0.999, "maximum": 1},
        "ground_truth": {"anyOf": [{"type": "null"}, CLASSIFICATION]},
        "predicted": CLASSIFICATION,
        "score": {"type": "number"},
        "supporting": {
            "type": "object",
            "properties": {
                "_cls": {"const": "TemporalDetections"},
                "detections": {"type": "array", "items": DETECTION},
            },
            "required": ["_cls", "detections"],
            "additionalProperties": False,
        },
    },
    # The importer extends `tags`, and takes the ids of samples from the documents.
    "required": ["_id", "filepath", "tags", "_media_type", "_rand", "predicted", "score", "supporting"],
}
FRAME = {
    "type": "object",
    "properties": {"_id": OID, "_sample_id": OID, "frame_number": {"type": "integer", "minimum": 1}},
    "required": ["_id", "_sample_id", "frame_number"],
}
FIELD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "ftype": {"type": "string", "pattern": r"^fiftyone\.core\.fields\.[A-Za-z]+Field$"},
        "embedded_doc_type": {"type": ["string", "null"], "pattern": r"^fiftyone\.core\.(labels|metadata)\.[A-Za-z]+$"},
        "subfield": {"type": ["string", "null"], "pattern": r"^fiftyone\.core\.fields\.[A-Za-z]+Field$"},
        "fields": {"type": "array", "items": {"$ref": "#/$defs/field"}},
        "db_field": {"type": "string"},
        "description": {"type": ["string", "null"]},
        "info": {"type": ["object", "null"]},
        "read_only": {"type": "boolean"},
    },
    "required": ["name", "ftype", "embedded_doc_type", "subfield", "fields", "db_field"],
    "additionalProperties": False,
}
DATASET: dict[str, Any] = {
    "$defs": {"field": FIELD},
    "type": "object",
    "properties": {
        "version": {"type": "string", "pattern": r"^1\.\d+\.\d+$"},  # without it, the format of FiftyOne below 0.8
        "media_type": {"const": "video"},
        "sample_fields": {"type": "array", "items": {"$ref": "#/$defs/field"}},
        "frame_fields": {"type": "array", "items": {"$ref": "#/$defs/field"}},
        "saved_views": {"type": "array"},
        "workspaces": {"type": "array"},
        **{name: {"type": "object"} for name in ("annotation_runs", "brain_methods", "evaluations", "runs")},
    },
    "required": [
        *("name", "version", "media_type", "sample_collection_name", "frame_collection_name"),
        *("sample_fields", "frame_fields"),
    ],
}


def collection(key: str, document: dict[str, Any]) -> dict[str, Any]:
    """A file with all documents of a collection."""
    return {
        "type": "object",
        "properties": {key: {"type": "array", "items": document}},
        "required": [key],
        "additionalProperties": False,
    }
