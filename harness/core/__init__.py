"""The data types that every other package uses: specs, records, the plugin interface, the registry and stored runs."""
