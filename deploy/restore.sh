#!/bin/sh
# Restore a backup of backup.sh into an empty home and an empty database. Nothing of the study may run meanwhile.
#   restore.sh FOLDER
# Reads ISS_HOME, and PGSERVICEFILE with the service dagster, whose database must exist.
set -eu
backup=${1:?folder of the backup}
home=${ISS_HOME:?the home}
umask 077
mkdir -p "$home"
[ -z "$(ls -A "$home")" ] || { echo "$home is not empty" >&2; exit 2; }
count=$(psql --no-psqlrc --quiet --tuples-only --no-align --dbname="service=dagster" \
  --command="select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')")
[ "$count" -eq 0 ] || { echo "the database is not empty" >&2; exit 2; }
(cd "$backup" && sha256sum --quiet --check SHA256SUMS)

tar -C "$backup/home" -cf - . | tar -C "$home" -xf -
cp "$backup/warehouse.duckdb" "$home/warehouse.duckdb"
pg_restore --exit-on-error --single-transaction --no-owner --dbname="service=dagster" "$backup/dagster.dump"
echo "restored; now: iss doctor, iss status, and iss withdraw for everybody who withdrew since the backup was made"
