"""The people of a workshop: users with passwords and roles, and the sessions in which they are signed in."""
