"""The demo's cohort of invented people, written as real DICOM files."""
