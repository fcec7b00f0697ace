-- Roles that may do no more than their work needs. The databases belong to one role, here `iss`, which is for `iss serve`,
-- `iss run`, `iss withdraw`, and upgrades. This adds three more, named after it:
--
--   iss_writer   for `iss worker`: reads and writes rows; cannot change tables, the study that they belong to, or who withdrew
--   iss_reader   for `iss sql` and notebooks: reads the study's tables, and the register of withdrawals, so that no audit log names
--                who withdrew; not Dagster's history
--   iss_backup   for backup.sh: reads everything
--
-- As the server's administrator, after the first `iss run` and again after each new version (it may be repeated at any time):
--
--   psql --dbname=iss --file=roles.sql && psql --dbname=dagster --file=roles.sql
--   psql --command='\password iss_writer'     -- and the others; a role without a password cannot sign in
--
-- The data folder is the file system's to protect: mount it read-only for readers and backups.
\set ON_ERROR_STOP on
\set QUIET on
select pg_get_userbyid(datdba) as owner from pg_database where datname = current_database() \gset
select :'owner' || '_writer' as writer, :'owner' || '_reader' as reader, :'owner' || '_backup' as backup \gset

select format('create role %I login', name)
from unnest(array[:'writer', :'reader', :'backup']) as name
where not exists (select from pg_roles where rolname = name) \gexec

-- nobody else gets in; what is listed below is all that the three may do
revoke all on database :"DBNAME" from public;
revoke create on schema public from public;
grant connect on database :"DBNAME" to :"writer", :"backup";
grant usage on schema public to :"writer", :"reader", :"backup";

-- the owner erases patients: from tables, which it owns, and from the write-ahead log
grant pg_checkpoint, pg_monitor to :"owner";
grant execute on function pg_switch_wal() to :"owner";

grant select, insert, update, delete on all tables in schema public to :"writer";
grant usage, update on all sequences in schema public to :"writer";
alter default privileges for role :"owner" in schema public grant select, insert, update, delete on tables to :"writer";
alter default privileges for role :"owner" in schema public grant usage, update on sequences to :"writer";
select format('revoke insert, update, delete on %s from %I', relation, :'writer')
from (select to_regclass(name) as relation
    from unnest(array['iss_study', 'iss_register', 'iss_register_key', 'iss_register_change']) as name) as tables
where relation is not null \gexec

grant select on all tables in schema public to :"backup";
grant select on all sequences in schema public to :"backup";
alter default privileges for role :"owner" in schema public grant select on tables to :"backup";
alter default privileges for role :"owner" in schema public grant select on sequences to :"backup";

-- where the study's tables are, and nowhere else
select to_regclass('ducklake_metadata') is not null as is_catalog \gset
\if :is_catalog
    grant connect on database :"DBNAME" to :"reader";
    grant select on all tables in schema public to :"reader";
    alter default privileges for role :"owner" in schema public grant select on tables to :"reader";
\endif
alter role :"reader" set default_transaction_read_only = on;
