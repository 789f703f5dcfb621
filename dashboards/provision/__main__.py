"""`python -m dashboards.provision [--force]`: set Superset up; the last line printed is a JSON object."""

import argparse
import json

from dashboards.provision.setup import set_up

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="dashboards.provision", description=__doc__)
    parser.add_argument("--force", action="store_true", help="set up again even if nothing has changed")
    print(json.dumps(set_up(force=parser.parse_args().force), ensure_ascii=False))
