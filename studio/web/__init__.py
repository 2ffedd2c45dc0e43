"""The server, its guard and login, the routes and the page."""
