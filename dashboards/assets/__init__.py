"""The wall as code: sql/ what each tile asks, tiles/ how it is drawn, wall.py where it stands, bundle.py the documents."""
