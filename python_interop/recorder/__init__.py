"""What python_interop/record_fixtures.py is made of."""
