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
[ ${#wanted[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "测试需要这些 Debian 软件包 / the tests need these Debian packages: ${wanted[*]}"
  echo "  sudo apt-get install ${wanted[*]}"
  exit 1
fi
echo "安装测试依赖 / installing for the tests: ${wanted[*]}"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
