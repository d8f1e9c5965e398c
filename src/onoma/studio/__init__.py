"""The studio: pages over a served run, under ``/studio`` of the same application."""
