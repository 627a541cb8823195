// Shows the OpenAPI document that the page names. Requests can't be sent from here: a service's
// port is another origin, which the content security policy forbids.

const place = document.getElementById("swagger-ui");

SwaggerUIBundle({
    domNode: place,
    url: place.dataset.url,
    deepLinking: true,
    supportedSubmitMethods: [],
    validatorUrl: null,
});
