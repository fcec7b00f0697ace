#!/bin/sh
# Back up a shared study into a new folder; nothing has to be stopped.
#   backup.sh FOLDER
# Reads ISS_HOME, ISS_WAREHOUSE__DATA_PATH, and PGSERVICEFILE with the services iss and dagster; for tables in object storage also
# credentials (AWS_...), and python3 has to be the one with iss-assets.
#
# The order makes it consistent. The catalog is dumped first, in one snapshot of Postgres; data files are never changed, and
# those that a later version of a table replaces stay for a day, so the copy that follows has every file that the dump names. That is
# checked at the end: a withdrawal in between deletes files at once, and then the backup is refused and has to be made again.
set -eu
target=${1:?folder for the backup}
tables=${ISS_WAREHOUSE__DATA_PATH:?where the tables are}
home=${ISS_HOME:?the home}
umask 077
mkdir -p "$target"
[ -z "$(ls -A "$target")" ] || { echo "$target is not empty" >&2; exit 2; }
begun=$(date -u +%Y-%m-%dT%H:%M:%SZ)

pg_dump --format=custom --file="$target/catalog.dump" "service=iss"
pg_dump --format=custom --file="$target/dagster.dump" "service=dagster"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy() {
  mkdir "$2"
  # 1: a file changed or went away while it was read, as work goes on; it belongs to nothing that the dump names
  { tar -C "$1" --exclude=./spool --exclude=./run --warning=no-file-changed --warning=no-file-removed -cf - . ||
    [ $? -eq 1 ] || touch "$work/failed"; } | tar -C "$2" -xf -
  [ ! -e "$work/failed" ]
}
case $tables in
  s3://*) python3 -m iss_assets.warehouse.bucket_copy save "$target/tables" ;;
  *) copy "$tables" "$target/tables" ;;
esac
# without what waits in the spool, which is read from the videos again
copy "$home" "$target/home"

pg_restore --data-only --table=ducklake_data_file --table=ducklake_delete_file --file=- "$target/catalog.dump" |
  grep -oE 'ducklake-[0-9a-f-]+(-delete)?\.parquet' | sort -u >"$work/named" || true
find "$target/tables" -name '*.parquet' | sed 's|.*/||' | sort -u >"$work/copied"
missing=$(comm -23 "$work/named" "$work/copied" | wc -l)
if [ "$missing" -gt 0 ]; then
  echo "$missing data files were deleted meanwhile (by a withdrawal?): this backup is incomplete, make another" >&2
  exit 1
fi
(cd "$target" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS)
echo "$begun: $(wc -l <"$work/named") data files, $(du -sh "$target" | cut -f1)"
