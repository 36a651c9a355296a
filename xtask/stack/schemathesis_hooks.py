"""What the local gateway cannot carry is not asked through it: a body that is no UTF-8. (API Gateway sends such a one in base64.)

The functions' own answer to it is tested without the gateway, in tests/contract/access.rs.
"""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    body = case.body
    if isinstance(body, (bytes, bytearray)):
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            return False
    return True
