"""Research cohorts: ``run.run`` answers with attrition and disclosure control; ``saved`` keeps versions; ``describe``
reads a definition back in plain Chinese. The YAML files beside this one are shipped definitions."""
