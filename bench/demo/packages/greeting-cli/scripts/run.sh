#!/bin/sh
exec cargo run -- "$@"
