#!/bin/sh
# Restore a backup of backup.sh into empty folders and empty databases, or an empty place in object storage, from whichever of both it
# was made. Nothing of the study may run meanwhile.
#   restore.sh FOLDER
# Reads ISS_HOME, ISS_WAREHOUSE__DATA_PATH, and PGSERVICEFILE with the services iss and dagster, whose databases must exist; for
# tables in object storage also credentials (AWS_...), and python3 has to be the one with iss-assets.
set -eu
backup=${1:?folder of the backup}
tables=${ISS_WAREHOUSE__DATA_PATH:?where the tables are to be}
home=${ISS_HOME:?the home}
umask 077
require_empty() {
  mkdir -p "$1"
  [ -z "$(ls -A "$1")" ] || { echo "$1 is not empty" >&2; exit 2; }
}
case $tables in s3://*) ;; *) require_empty "$tables" ;; esac
require_empty "$home"
for database in iss dagster; do
  count=$(psql --no-psqlrc --quiet --tuples-only --no-align --dbname="service=$database" \
    --command="select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')")
  [ "$count" -eq 0 ] || { echo "the database $database is not empty" >&2; exit 2; }
done
(cd "$backup" && sha256sum --quiet --check SHA256SUMS)

case $tables in
  s3://*) python3 -m iss_assets.warehouse.bucket_copy load "$backup/tables" ;;
  *) tar -C "$backup/tables" -cf - . | tar -C "$tables" -xf - ;;
esac
tar -C "$backup/home" -cf - . | tar -C "$home" -xf -
pg_restore --exit-on-error --single-transaction --no-owner --dbname="service=dagster" "$backup/dagster.dump"
pg_restore --exit-on-error --single-transaction --no-owner --dbname="service=iss" "$backup/catalog.dump"
# the catalog says where the files are
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=place="${tables%/}/" --dbname="service=iss" <<'SQL'
update ducklake_metadata set value = :'place' where key = 'data_path';
SQL
echo "restored; now: iss doctor, iss status, and iss withdraw for everybody who withdrew since the backup was made"
