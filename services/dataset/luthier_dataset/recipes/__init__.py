"""Recipes turn documents into rows; the registry names them all."""
