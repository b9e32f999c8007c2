#!/usr/bin/env bash
# Installs the servers that the test suite starts: PostgreSQL, Redis, RabbitMQ, Orthanc
# (PACS) with DICOMweb, Chromium, dcmtk and node (the FHIR validator). Debian packages
# only. Their services are switched off again: tests start private copies on free loopback ports.
#
#   --if-possible   print what is missing and go on, unless CI=true
set -euo pipefail

declare -A NEEDS=(
  [postgresql]=/usr/lib/postgresql
  [redis-server]=/usr/bin/redis-server
  [rabbitmq-server]=/usr/sbin/rabbitmq-server
  [orthanc]=/usr/sbin/Orthanc
  [orthanc-dicomweb]=/usr/share/orthanc/plugins/libOrthancDicomWeb.so
  [chromium]=/usr/bin/chromium
  [dcmtk]=/usr/bin/dcmcjpeg
  [nodejs]=/usr/bin/node
  [npm]=/usr/bin/npm
  [fonts-dejavu-core]=/usr/share/fonts/truetype/dejavu
)

missing=()
for package in "${!NEEDS[@]}"; do
  [ -e "${NEEDS[$package]}" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

give_up() {
  echo "test services missing: ${missing[*]} ($1)" >&2
  if [ "${1:-}" != "" ] && [ "${CI:-}" = "true" ]; then exit 1; fi
  [ "${MODE:-}" = "--if-possible" ] && exit 0
  exit 1
}
MODE="${1:-}"

command -v apt-get >/dev/null || give_up "no apt-get here"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || give_up "neither root nor passwordless sudo"
  sudo="sudo"
fi

export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq || give_up "apt-get update failed"
$sudo env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
  || give_up "apt-get install failed"

if [ -d /run/systemd/system ]; then
  for service in postgresql redis-server rabbitmq-server orthanc; do
    $sudo systemctl disable --now "$service" 2>/dev/null || true
  done
fi
