"""The gateway with few file descriptors, as `program` of a stack: `("tests.support.few_files", "64", "serve")`."""

import resource
import sys

from gateway.cli.main import main

if __name__ == "__main__":
    most = int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    main()
