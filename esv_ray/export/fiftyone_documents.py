"""Documents of FiftyOne's dataset format on disk (`fiftyone.types.FiftyOneDataset`).

Read by `FiftyOneDatasetImporter` in `fiftyone/utils/data/importers.py` of FiftyOne 1.22.1
(github.com/voxel51/fiftyone); fields and labels are those of `core/odm/dataset.py`, `core/odm/sample.py`,
`core/odm/frame.py` and `core/labels.py` there. The importer sets the times and the id of the dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "1.0.0"
"""Version of FiftyOne that has these documents; newer versions migrate them."""
_FIELDS = "fiftyone.core.fields."
_LABELS = "fiftyone.core.labels."
_EMBEDDED = f"{_FIELDS}EmbeddedDocumentField"

Document = dict[str, Any]


def object_id(*parts: object) -> Document:
    """Return the id of a document, the same for the same parts. Its first four bytes, a time, are 0."""
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return {"$oid": f"{'0' * 8}{digest[:16]}"}


def field(
    name: str,
    kind: str,
    *,
    stored: str | None = None,
    subfield: str | None = None,
    document: str | None = None,
    fields: Sequence[Document] = (),
    description: str | None = None,
    fixed: bool = False,
) -> Document:
    """Return the declaration of a field.

    Args:
        name: of the field.
        kind: class of `fiftyone.core.fields`.
        stored: name in the database; None: the same.
        subfield: class of `fiftyone.core.fields` of the items of a list.
        document: full name of the class of an embedded document, or of the items of a list.
        fields: declarations of its further fields.
        description: shown in the App.
        fixed: whether users cannot change it.
    """
    return {
        "name": name,
        "ftype": f"{_FIELDS}{kind}",
        "embedded_doc_type": document,
        "subfield": None if subfield is None else f"{_FIELDS}{subfield}",
        "fields": list(fields),
        "db_field": stored or name,
        "description": description,
        "info": None,
        "read_only": fixed,
    }


def label_field(name: str, kind: str, *, fields: Sequence[Document] = (), description: str | None = None) -> Document:
    """Return the declaration of a field with a label of a class of `fiftyone.core.labels`."""
    return field(
        name,
        "EmbeddedDocumentField",
        document=f"{_LABELS}{kind}",
        fields=fields,
        description=description,
    )


SAMPLE_FIELDS = (
    field("id", "ObjectIdField", stored="_id"),
    field("filepath", "StringField"),
    field("tags", "ListField", subfield="StringField"),
    field("metadata", "EmbeddedDocumentField", document="fiftyone.core.metadata.VideoMetadata"),
    field("created_at", "DateTimeField", fixed=True),
    field("last_modified_at", "DateTimeField", fixed=True),
    field("_media_type", "StringField"),
    field("_rand", "FloatField"),
    field("_dataset_id", "ObjectIdField"),
    field("video_id", "StringField", description="Name of the video in the feature table"),
    label_field("ground_truth", "Classification", description="Label"),
    label_field("predicted", "Classification", description="Predicted class, with its probability as confidence"),
    field("score", "FloatField", description="Probability of the predicted class"),
    field("n_elements", "IntField", description="Number of elements (frames) of the sequence"),
    field("exact", "BooleanField", description="Whether the ESVs are exact"),
    label_field(
        "supporting",
        "TemporalDetections",
        fields=[
            field(
                "detections",
                "ListField",
                subfield="EmbeddedDocumentField",
                document=f"{_LABELS}TemporalDetection",
                fields=[field("esv", "FloatField"), field("element", "IntField")],
            )
        ],
        description="The elements that support the predicted class and the label most",
    ),
)
FRAME_FIELDS = (
    field("id", "ObjectIdField", stored="_id"),
    field("frame_number", "FrameNumberField"),
    field("created_at", "DateTimeField", fixed=True),
    field("last_modified_at", "DateTimeField", fixed=True),
    field("_sample_id", "ObjectIdField"),
    field("_dataset_id", "ObjectIdField"),
    field("element", "IntField", description="Position in the sequence"),
)


def dataset_document(
    key: str, frame_fields: Sequence[Document], classes: Sequence[str], info: Mapping[str, Any]
) -> Document:
    """Return the document of the dataset, metadata.json.

    Args:
        key: names the output.
        frame_fields: declarations of the fields of ESVs.
        classes: names by id.
        info: of the dataset.
    """
    number = object_id(key, "dataset")["$oid"]
    return {
        "_id": {"$oid": number},
        "name": f"esv-{key[:8]}",
        "slug": f"esv-{key[:8]}",
        "version": VERSION,
        "sample_collection_name": f"samples.{number}",
        "frame_collection_name": f"frames.samples.{number}",
        "persistent": False,
        "media_type": "video",
        "group_media_types": {},
        "tags": [],
        "info": dict(info),
        "app_config": {
            "media_fields": ["filepath"],
            "grid_media_field": "filepath",
            "modal_media_field": "filepath",
            "media_fallback": False,
            "plugins": {},
        },
        "classes": {},
        "default_classes": list(classes),
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": list(SAMPLE_FIELDS),
        "frame_fields": [*FRAME_FIELDS, *frame_fields],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }
