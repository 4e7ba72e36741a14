// Starts Swagger UI from a file of its own: the page's policy allows no inline script.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: new URL("openapi.json", document.baseURI).href,
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    persistAuthorization: false,
    // The default asks a public validator on the internet.
    validatorUrl: null,
  });
});
