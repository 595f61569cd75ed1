"""Parts of image files that Pillow leaves out: ICC profiles, EXIF blocks, PNG chunks, deep PNG and TIFF, DICOM."""
