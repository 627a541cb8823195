# The system in containers, by whichever compose is there: deploy/system.

.PHONY: up up-secure up-cluster down nuke status logs urls order break heal replay smoke

up: ## Start the system in containers, and wait until all of it is healthy
	@deploy/system up

up-secure: ## The same, with TLS, SASL and ACLs between the services and Kafka
	@deploy/system up-secure

up-cluster: ## The same, on three brokers with three replicas of each topic
	@deploy/system up-cluster

down: ## Stop the containers; their data stays
	@deploy/system down

nuke: ## Stop the containers and remove their data
	@deploy/system nuke

status: ## Show the containers, how they are and what memory they take
	@deploy/system status

logs: ## Follow the logs, also those of `make local`; with ID=<correlation id> show one flow through all services
	@deploy/system logs $(if $(ID),'$(subst ','\'',$(ID))')

urls: ## List where everything is
	@deploy/system urls

order: ## Place an order and show where it can be seen
	@deploy/system order

break: ## Break a consumer on purpose; GROUP=billing KIND=permanent|transient|slow RATE=1
	@deploy/system break $(or $(GROUP),billing) $(or $(KIND),permanent) $(or $(RATE),1)

heal: ## Heal what was broken
	@deploy/system heal $(GROUP)

replay: ## Show what is dead, ask, and replay it in its group; GROUP=billing
	@deploy/replay-dlq.sh --group $(or $(GROUP),billing)

smoke: ## Check the whole tour on the running containers, however they were started; SMOKE=secure insists on up-secure, SMOKE=cluster on up-cluster
	@SMOKE=$(SMOKE) deploy/smoke
