# The system in containers, with either version of compose: see deploy/system.

.PHONY: up up-secure up-cluster down nuke status logs urls order break heal replay smoke

up: ## Start the system in containers, and wait until all are healthy
	@deploy/system up

up-secure: ## Like `up`, with TLS, SASL and ACLs between the services and Kafka
	@deploy/system up-secure

up-cluster: ## Like `up`, on three brokers with three replicas of each topic
	@deploy/system up-cluster

down: ## Stop the containers and keep their data
	@deploy/system down

nuke: ## Stop the containers and remove their data
	@deploy/system nuke

status: ## Show the containers with their state and memory
	@deploy/system status

logs: ## Follow the logs, also with `make local`; ID=<correlation id> shows one flow through all services
	@deploy/system logs $(if $(ID),'$(subst ','\'',$(ID))')

urls: ## List the published addresses
	@deploy/system urls

order: ## Place an order, also with `make local`, and show where its invoice and logs are
	@deploy/system order

break: ## Inject a fault into a consumer; GROUP=billing KIND=permanent|transient|slow RATE=1
	@deploy/system break $(or $(GROUP),billing) $(or $(KIND),permanent) $(or $(RATE),1)

heal: ## Remove injected faults
	@deploy/system heal $(GROUP)

replay: ## List dead letters, ask for confirmation, and replay them in their group; GROUP=billing
	@deploy/replay-dlq.sh --group $(or $(GROUP),billing)

smoke: ## Check the whole tour on the running containers; SMOKE=secure requires up-secure, SMOKE=cluster requires up-cluster
	@SMOKE=$(SMOKE) deploy/smoke
