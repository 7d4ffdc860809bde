"""Everything on one machine: the services, the jobs, the probes that measure them and the reference that judges."""
