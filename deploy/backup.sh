#!/bin/sh
# Back up a study into a new folder; nothing has to be stopped.
#   backup.sh FOLDER
# Reads ISS_HOME, and PGSERVICEFILE with the service dagster.
#
# The order makes it consistent. Dagster's history is dumped first, in one snapshot of Postgres; then the tables are copied, which waits
# for a write in progress and keeps others waiting; then the rest of the home. Whatever finishes in between is in the tables
# and not in the history, and what the tables say is what counts: nothing is computed again.
set -eu
target=${1:?folder for the backup}
home=${ISS_HOME:?the home}
umask 077
mkdir -p "$target"
[ -z "$(ls -A "$target")" ] || { echo "$target is not empty" >&2; exit 2; }
begun=$(date -u +%Y-%m-%dT%H:%M:%SZ)

pg_dump --format=custom --file="$target/dagster.dump" "service=dagster"
iss snapshot "$target/warehouse.duckdb" --purpose backup >/dev/null
mkdir "$target/home"
failed=$(mktemp)
trap 'rm -f "$failed"' EXIT
# without the tables, and without what waits in the spool, which is read from the videos again. Status 1 says that a file changed or
# went away while it was read, as work goes on
{ tar -C "$home" --exclude='./warehouse.duckdb*' --exclude=./spool --exclude=./run --warning=no-file-changed \
    --warning=no-file-removed -cf - . || [ $? -eq 1 ] || echo failed >"$failed"; } | tar -C "$target/home" -xf -
[ ! -s "$failed" ]
(cd "$target" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS)
echo "$begun: $(du -sh "$target" | cut -f1)"
