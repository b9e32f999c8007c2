"""What crosses between the web process and the worker; loads neither torch nor timm."""
