"""The SQL models of ``dbt_like_sql/``: read from files, checked, built in the warehouse and tested."""
