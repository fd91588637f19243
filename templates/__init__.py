"""The message templates that come with the gateway: data, read by `gateway.templating`."""
