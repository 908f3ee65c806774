"""What everything else is made of: specs, records, the plugin interface, the registry, and runs on disk."""
