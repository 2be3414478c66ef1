module handlers.local/{{name}}

go 1.24
