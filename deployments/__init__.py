"""What runs when and where: deployments and automations made from the contracts. Nothing imports this package."""
