"""Runners whose machines are rented by the minute: what a service is asked, two services, and what guards the money."""
