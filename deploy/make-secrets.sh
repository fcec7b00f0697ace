#!/bin/sh
# Make the passwords of Postgres and Redis, each in the form that its programs read. Existing files stay as they are.
#   make-secrets.sh FOLDER [HOST [REDIS_HOST]]    HOST is where workers find them: `postgres` and `redis` in compose.yaml
# With HOST and a folder that has passwords already, only the addresses are written again, for a further host's copy.
set -eu
folder=${1:?folder for the secrets}
postgres=${2:-postgres}
redis=${3:-${2:-redis}}
umask 077
mkdir -p "$folder"
# letters and digits only: nothing to escape in an address or a file
new() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 40; }
for name in postgres_password redis_password; do
  [ -s "$folder/$name" ] || new >"$folder/$name"
done
for database in iss dagster; do
  printf '[%s]\nhost=%s\nport=%s\nuser=iss\npassword=%s\ndbname=%s\n\n' \
    "$database" "$postgres" "${PGPORT:-5432}" "$(cat "$folder/postgres_password")" "$database"
done >"$folder/pg_service.conf"
printf 'redis://:%s@%s:%s/0' "$(cat "$folder/redis_password")" "$redis" "${REDISPORT:-6379}" >"$folder/ISS_CLUSTER__BROKER"
printf 'requirepass %s\nsave ""\nappendonly no\nmaxmemory-policy noeviction\n' "$(cat "$folder/redis_password")" \
  >"$folder/redis.conf"
# run by root: for the user of the containers
[ "$(id -u)" -ne 0 ] || chown -R "${RUN_AS:-10001:10001}" "$folder"
