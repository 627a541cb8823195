# The system in containers, by whichever compose is there: deploy/system.

.PHONY: up down nuke status logs urls order

up: ## Start the system in containers, and wait until all of it is healthy
	@deploy/system up

down: ## Stop the containers; their data stays
	@deploy/system down

nuke: ## Stop the containers and remove their data
	@deploy/system nuke

status: ## Show the containers, how they are and what memory they take
	@deploy/system status

logs: ## Follow the logs; with ID=<correlation id> show one flow through all services
	@deploy/system logs $(if $(ID),'$(subst ','\'',$(ID))')

urls: ## List where everything is
	@deploy/system urls

order: ## Place an order and show where it can be seen
	@deploy/system order
