"""HTTP: routes, body reading, one error mapping, two listeners."""
