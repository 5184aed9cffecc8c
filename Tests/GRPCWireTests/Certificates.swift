// A certificate authority, a server and a client, made by OpenSSL for a hundred years:
//   openssl ecparam -name prime256v1; req -x509 -subj /CN=ca;
//   req -subj /CN=localhost, -addext subjectAltName=DNS:localhost,IP:127.0.0.1;
//   req -subj "/O=Example/CN=alice"
// The second server certificate is /CN=localhost/O=second and names no address.

import NIOSSL

enum Certificates {
    static let authority = """
        -----BEGIN CERTIFICATE-----
        MIIBcTCCARegAwIBAgIUGZH0srytwmNWOUchLWNcYeeM8FkwCgYIKoZIzj0EAwIw
        DTELMAkGA1UEAwwCY2EwIBcNMjYxMTIzMDc1OTI4WhgPMjEyNjEwMzAwNzU5Mjha
        MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmHuWr0ii
        l3bO7ah4jKf28j/gPWntuNKF0yeMaox5R+8rBitkaiOtfSEJCGF1PsnfOChzwNJQ
        OqlsAQEjAkxataNTMFEwHQYDVR0OBBYEFKMGWS/M47u6JX5d40yBGE4aXqTvMB8G
        A1UdIwQYMBaAFKMGWS/M47u6JX5d40yBGE4aXqTvMA8GA1UdEwEB/wQFMAMBAf8w
        CgYIKoZIzj0EAwIDSAAwRQIgW7fpPr8FJqtY25QB/P8bExFyzKURAFrDbuoJeGgZ
        D18CIQDnGDiPjmpBnlzXuaYFtSTWjHsjIxzxaccHqU1HALFuMQ==
        -----END CERTIFICATE-----
        """

    static let server = """
        -----BEGIN CERTIFICATE-----
        MIIBhDCCASmgAwIBAgIUaOPXvoRsMNtQ4H3tcKztQSeEYSowCgYIKoZIzj0EAwIw
        DTELMAkGA1UEAwwCY2EwIBcNMjYxMTIzMDc1OTI5WhgPMjEyNjEwMzAwNzU5Mjla
        MBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
        BCVDggtZcbnBbT0m5esiz9CP9wCpk2jDSvB4EyLj3+i+uzydk+l+tuN3XoWWX5Cj
        i3e1xHpLLCFZhjBklB2b93SjXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAA
        ATAdBgNVHQ4EFgQU1QdT1w5m23O9/Vld7XI3ELw56SQwHwYDVR0jBBgwFoAUowZZ
        L8zju7olfl3jTIEYThpepO8wCgYIKoZIzj0EAwIDSQAwRgIhAPAqeb61RHkyQ3I/
        ISiHlrpUioPWUQxjBpigvDXEOfMVAiEAghGJpL0z5E3T01juCbJvxGKhXqwnqff+
        3IX+3W+BUD8=
        -----END CERTIFICATE-----
        """

    static let serverKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgoc0LtT+LSF37XAKv
        50utvlCDsPwFN8PwyrrSPvG7Z5qhRANCAAQlQ4ILWXG5wW09JuXrIs/Qj/cAqZNo
        w0rweBMi49/ovrs8nZPpfrbjd16Fll+Qo4t3tcR6SywhWYYwZJQdm/d0
        -----END PRIVATE KEY-----
        """

    static let second = """
        -----BEGIN CERTIFICATE-----
        MIIBjjCCATSgAwIBAgIUaOPXvoRsMNtQ4H3tcKztQSeEYS0wCgYIKoZIzj0EAwIw
        DTELMAkGA1UEAwwCY2EwIBcNMjYxMTIzMDgwNTQyWhgPMjEyNjEwMzAwODA1NDJa
        MCUxEjAQBgNVBAMMCWxvY2FsaG9zdDEPMA0GA1UECgwGc2Vjb25kMFkwEwYHKoZI
        zj0CAQYIKoZIzj0DAQcDQgAE0oBL6iYPTOY/xzUk16988NcFgkgo4iRYm0CrDCZq
        eky+EYbNwvrlgtrOgXcPDvN1M+2Itraxfy0NTWEc/yBdv6NYMFYwFAYDVR0RBA0w
        C4IJbG9jYWxob3N0MB0GA1UdDgQWBBTK6+hTdcKemYsJi46Iv9kpZ6VcojAfBgNV
        HSMEGDAWgBSjBlkvzOO7uiV+XeNMgRhOGl6k7zAKBggqhkjOPQQDAgNIADBFAiAx
        Yn+Kdw6q75aTc1eUexhtgrQ7j3r66PobiwF20qvkcgIhAPf5pbY8ssBl49ksn4T5
        UuH+5DOsZVSHZTeVLgeFKvWS
        -----END CERTIFICATE-----
        """

    static let secondKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgr9l3N1TQedsBesDs
        dHt6x6yklKymQqQxLUVQGQjk8HahRANCAATSgEvqJg9M5j/HNSTXr3zw1wWCSCji
        JFibQKsMJmp6TL4Rhs3C+uWC2s6Bdw8O83Uz7Yi2trF/LQ1NYRz/IF2/
        -----END PRIVATE KEY-----
        """

    static let client = """
        -----BEGIN CERTIFICATE-----
        MIIBijCCATCgAwIBAgIUaOPXvoRsMNtQ4H3tcKztQSeEYSwwCgYIKoZIzj0EAwIw
        DTELMAkGA1UEAwwCY2EwIBcNMjYxMTIzMDc1OTI5WhgPMjEyNjEwMzAwNzU5Mjla
        MCIxEDAOBgNVBAoMB0V4YW1wbGUxDjAMBgNVBAMMBWFsaWNlMFkwEwYHKoZIzj0C
        AQYIKoZIzj0DAQcDQgAESJXzonlG75MPG2CRSxFJgAc5UPT91M1EZ+l4fgVPAa91
        a/TRbjRdCqYl4mEQ5Jo4sgjK0O5gkYEmZu3x3KyEJ6NXMFUwEwYDVR0lBAwwCgYI
        KwYBBQUHAwIwHQYDVR0OBBYEFACgYUNQfCIuqGYHOomAMf+uV4EcMB8GA1UdIwQY
        MBaAFKMGWS/M47u6JX5d40yBGE4aXqTvMAoGCCqGSM49BAMCA0gAMEUCIFW/b2n7
        eZqm0ZT1g6yJKkYhltl6jUaCd1ySzr4KX0Y1AiEA7PjwHmkRGbd/3NNyO86wF6cP
        wdmfAwv1dk5or5glSV4=
        -----END CERTIFICATE-----
        """

    static let clientKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgL3WLGDb5VamAiZIV
        N8OM31TQQbMYXRKFTU5WKIJ0uEyhRANCAARIlfOieUbvkw8bYJFLEUmABzlQ9P3U
        zURn6Xh+BU8Br3Vr9NFuNF0KpiXiYRDkmjiyCMrQ7mCRgSZm7fHcrIQn
        -----END PRIVATE KEY-----
        """

    static func certificate(_ pem: String) throws -> NIOSSLCertificate {
        try NIOSSLCertificate(bytes: Array(pem.utf8), format: .pem)
    }

    static func key(_ pem: String) throws -> NIOSSLPrivateKey {
        try NIOSSLPrivateKey(bytes: Array(pem.utf8), format: .pem)
    }
}
