"""What eyes see, as pure functions of arrays: transforms, structural similarity, SSIMULACRA2, networks' features."""
