"""`python -m dashboards.links`: addresses and login of the wall as one JSON object; starts nothing."""

import json

from dashboards.config import surroundings

if __name__ == "__main__":
    print(json.dumps(surroundings.links(), ensure_ascii=False))
