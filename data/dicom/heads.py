"""Which DICOM slices may show a head: the part of the body as the file names it, read without trust."""

import re

from pydicom.dataset import Dataset

from phantomset.data.dicom.elements import word

_VOLUMES = ("CT", "MR")

_BELOW = (
    "ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BILEDUCT BLADDER BREAST BRONCHUS BUTTOCK "
    "CALCANEUS CALF CHEST CHESTABDOMEN CHESTABDPELVIS CLAVICLE COCCYX COLON DUODENUM ELBOW ESOPHAGUS "
    "EXTREMITY FEMUR FINGER FOOT FOREARM GALLBLADDER GROIN HAND HEART HIP HUMERUS ILEUM ILIUM JEJUNUM KIDNEY "
    "KNEE LEG LIVER LOWERLEG LSPINE LUNG MEDIASTINUM OVARY PANCREAS PATELLA PELVIS PENIS PROSTATE RADIUS "
    "RADIUSULNA RECTUM RIB SACRUM SCAPULA SCROTUM SHOULDER SIJOINT SPLEEN SSPINE STERNUM STOMACH TESTIS "
    "THIGH THORAX TIBIA TIBIAFIBULA TLSPINE TOE TSPINE ULNA UPPERARM URETER URETHRA UTERUS VAGINA WRIST"
)
_NO_HEAD = frozenset(_BELOW.split())
"""Parts from the shoulders down. Source: DICOM PS3.16, annex L (defined terms of Body Part Examined)."""


def may_show_a_head(data: Dataset) -> bool:
    """Return whether this is a slice of CT or MR that no part of the body below the neck is named for.

    A list of parts that are a head would miss the next spelling of one (``HEADNECK``, ``Brain``, ``ORBIT``,
    another language), and an absent element says nothing: only a part that is known to be none tells.
    """
    part = re.sub(r"[^A-Z]", "", word(data, "BodyPartExamined").upper())
    return word(data, "Modality").upper() in _VOLUMES and part not in _NO_HEAD
