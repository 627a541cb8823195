// Shows the OpenAPI document that the page names. Requests are not sent from here: a service's port is another origin,
// which the policy of these pages forbids.

const place = document.getElementById("swagger-ui");

SwaggerUIBundle({
    domNode: place,
    url: place.dataset.url,
    deepLinking: true,
    supportedSubmitMethods: [],
    validatorUrl: null,
});
