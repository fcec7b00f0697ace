-- The catalog of the tables is in the database iss; Dagster's history has its own.
create database dagster;
