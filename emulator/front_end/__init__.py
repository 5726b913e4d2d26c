"""The front end of the local cloud: it checks callers before the functions, as Cloud Run and IAP do on the platform."""
