# Nothing wrong: the application of the healthy Ruby servers.
run ->(_env) { [200, { "content-type" => "text/plain" }, ["ok\n"]] }
