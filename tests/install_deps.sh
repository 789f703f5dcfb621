#!/usr/bin/env bash
# What the tests need besides Python: a browser and Chinese fonts, from Debian's packages.
set -euo pipefail
wanted=()
command -v chromium >/dev/null || wanted+=(chromium)
fc-list 2>/dev/null | grep -qi 'noto.*cjk' || wanted+=(fonts-noto-cjk fontconfig)
[ ${#wanted[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "浏览器测试需要这些 Debian 软件包 / the browser tests need these Debian packages: ${wanted[*]}"
  echo "  sudo apt-get install ${wanted[*]}"
  exit 1
fi
echo "安装测试依赖 / installing for the tests: ${wanted[*]}"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
