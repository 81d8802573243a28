"""The small certificate authority of a fleet: certificates, what was issued and revoked, and the enrolment of boards and
hosts.
"""
