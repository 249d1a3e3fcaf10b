"""What ``deploy/`` holds: Prometheus rules, a Grafana dashboard and Kubernetes objects."""
