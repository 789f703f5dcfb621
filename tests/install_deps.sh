#!/usr/bin/env bash
# What the tests need besides Python: a browser, Chinese fonts and the real servers, from Debian's packages.
set -euo pipefail
wanted=()
command -v chromium >/dev/null || wanted+=(chromium)
fc-list 2>/dev/null | grep -qi 'noto.*cjk' || wanted+=(fonts-noto-cjk fontconfig)
command -v Orthanc >/dev/null || wanted+=(orthanc orthanc-dicomweb)
command -v mosquitto >/dev/null || wanted+=(mosquitto)
compgen -G "/usr/lib/postgresql/*/bin/pg_ctl" >/dev/null || wanted+=(postgresql)
command -v mariadbd >/dev/null || wanted+=(mariadb-server)
command -v npm >/dev/null || wanted+=(nodejs npm)

# the OpenID provider that single sign-on is tested against, as its lock names it; without it those tests say so and skip
provider() {
  local here
  here="$(cd "$(dirname "$0")/servers/oidc" && pwd)"
  [ "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ] && return
  (cd "$here" && npm ci --silent --no-audit --no-fund >/dev/null 2>&1) ||
    echo "npm 不可用，单点登录测试将跳过 / npm does not answer: tests of single sign-on will be skipped"
}
if [ ${#wanted[@]} -eq 0 ]; then
  provider
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "测试需要这些 Debian 软件包 / the tests need these Debian packages: ${wanted[*]}"
  echo "  sudo apt-get install ${wanted[*]}"
  exit 1
fi
echo "安装测试依赖 / installing for the tests: ${wanted[*]}"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
provider
