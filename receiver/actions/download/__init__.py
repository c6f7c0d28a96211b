"""Result files: fetched, checked, resumed and named."""
