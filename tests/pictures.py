from bench.pictures import encoded, photo, save_folder  # noqa: F401
