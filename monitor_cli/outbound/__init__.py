"""What leaves the house for customers: URLs judged, requests rendered and signed, sent by libcurl."""
