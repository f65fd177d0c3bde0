"""From a few video files to their pictures, in this process: decode, backbone, ESVs, figure."""
